"""Everything that a reader of examples gives, in a list."""

from groupwise.datasets.examples import each_example
from groupwise.datasets.labelled_steps import each_judgement
from groupwise.datasets.pairs import each_judged, each_pair


def read_examples(*source):
    return list(each_example(*source))


def read_pairs(*source):
    return list(each_pair(*source))


def read_judged(*source):
    return list(each_judged(*source))


def read_judgements(*source):
    return list(each_judgement(*source))
