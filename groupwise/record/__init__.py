"""The run's record: one SQLite file in a run directory, with every completion, reward and metric of the run."""

from groupwise.record.listing import RunInfo, list_runs
from groupwise.record.read import Evaluation, Record, RecordedOutput, open_record
from groupwise.record.schema import Answer
from groupwise.record.write import Recorder

__all__ = ["Answer", "Evaluation", "Record", "RecordedOutput", "Recorder", "RunInfo", "list_runs", "open_record"]
