"""Faithfulness of the defenses: our rows beside the paper's tables of vanilla classifiers (4 to 7).

paper        the paper's figures
rows         our rows by name, each with the paper's row that it stands beside
parts        the tables: images, classifier, attack sets, rows, and how many images a slow row gets
experiments  a table's experiments for the package's own jobs
scores       figures of the experiments that are done
ranks        gains, what is recovered, and rank correlations with the paper's
page         a table as Markdown
findings     what was looked at where a row is far from the paper's
"""
