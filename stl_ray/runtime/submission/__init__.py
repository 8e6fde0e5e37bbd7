"""SUBMISSION: a job handed to a cluster from elsewhere.

submit       one job, once; and its end
client       a client of the cluster's job API, and a job's log
wheel        the package as a wheel that travels to the nodes
node_check   what every node of the cluster has
"""
