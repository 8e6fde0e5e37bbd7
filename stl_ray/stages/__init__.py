"""STAGES: the only room that knows Ray.

session      join or start a Ray, leave what was found running
record       one line for each session of a job: times, counts, versions
package      the package as a wheel that travels to the nodes
dashboard    a client of a cluster's job API, and a job's log
submission   a job handed to a cluster, once
progress     a bar on a terminal, a line every 10 s elsewhere
runner       plan -> Ray Data actors -> receipts -> manifest
records      rows of image shards <-> tensors
trainer      Ray Train: workers, checkpoints, several trainings side by side; trainings: which classifiers, from what
tensorboard  the rows of a training as an event file
fitting/     the steps of `fit`
ingest, fit, project, train, attack, evaluate   one file per job, each with `run(experiment)`
"""
