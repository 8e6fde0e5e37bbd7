"""PIPELINE: the jobs, each with `run(experiment)` and, where it makes shards, `plan(experiment)`.

ingest      files -> image shards
fit/        training shards -> the stratified spaces
project     image shards -> purified image shards
train/      clean and purified shards -> classifiers
attack/     clean test shards and a classifier -> adversarial shards
evaluate/   every defense x attack x classifier -> scores; attacks that know of the defense
estimate/   what a job would take

identical   images of both splits that are the same
inputs      datasets, classifiers and defenses from earlier jobs
spaces      the spaces of an experiment, fitted or loaded from elsewhere
defended    defenses with the classifiers behind them
preflight   checks before any work
needs       what each job needs of an experiment
missing     how it is asked for, with the lines to add
look        a look at every model before any shard
batches     rows of image shards <-> tensors
purify      a shard's images through a defense, without Ray
budgets     budgets as a configuration gives them
"""
