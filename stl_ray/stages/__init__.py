"""STAGES: the only room that knows Ray.

session      join or start a Ray, leave what was found running
runner       plan -> Ray Data actors -> receipts -> manifest
worker       the actor that makes shards
computing    whose turn it is to compute in an actor with several shards in hand, and by how many threads
isolation    finding the row that kills its worker
works        what a stage does with a shard
records      rows of image shards <-> tensors
inputs       what a job needs from the jobs before it
preflight    what can be refused before any work
trainer      Ray Train: workers, checkpoints, several trainings side by side
board        on which workers post what they do
progress     a bar on a terminal, a line every 10 s elsewhere
status       the same as a file below the root
meters       the same as Ray's metrics
record       one line for each session of a job: times, counts, versions
package      the package as a wheel that travels to the nodes
dashboard    a client of a cluster's job API, and a job's log
submission   a job handed to a cluster, once
doctor       what every node of a cluster has
estimating/  what a job would take
trainings    which classifiers, from what
tensorboard  the rows of a training as an event file
fitting/     the steps of `fit`
attacked     what an adversarial set is crafted on
calibration  what needs a pass over the data before an attack
budgets      budgets as a configuration gives them
chosen       some images of a dataset, the same for every defense
victims      every defense with its classifier as attacks see it, and the attacks of the tiers on it
tiers/       the second half of `evaluate`: attacks that know of the defense, and the checks on them
gallery      images for the report
ingest, fit, project, train, attack, evaluate   one file per job, each with `run(experiment)`
"""
