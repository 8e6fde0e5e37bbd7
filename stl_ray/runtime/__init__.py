"""RUNTIME: the machinery on Ray, which knows no job.

session          join or start a Ray; one that was running stays so
ray_start        that join or start, with errors that say what is wrong
ray_address      whether a cluster's head answers at an address
ray_needs        what a local Ray takes of its machine: a folder, shared memory, ports
ray_death        why a process of a local Ray died as it started
signals          Ctrl-C and SIGTERM
shard_runner     plan -> Ray Data actors -> receipts -> manifest
shard_actor      the actor that makes shards
shard_task       what a job does with a shard
concurrency      the compute lock and the shard slots of an actor with several shards in hand, and its threads
bisection        finding the row that kills its worker
side_by_side     long pieces of work, each driven by a Ray task, so that the driver needs no threads
ray_train        Ray Train: workers, checkpoints
progress         a bar on a terminal, a line every 10 s elsewhere
progress_actor   the board on which workers post their progress
ray_metrics      the progress as Ray's metrics
job_status       the progress as a file below the root
job_log          one line for each session of a job: times, counts, versions
user_modules     the modules of a user's own classifiers and defenses, which travel to the nodes of a cluster
submission/      a job handed to a cluster: the package as a wheel, the cluster's job API, the check-up of its nodes
"""
