"""The Arrow schema of the four tables, with its version.

``trials`` has one row a planned trial: the fixed columns below, then one float64 column a registered metric (null where it does not apply).
``curves`` has the evaluation points of each trial during unlearning; ``examples`` the per-example observations that new metrics can be computed from;
``observations`` what a suite asked for beside them, a row an observation of a trial, with the metrics that read it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from mubench_ray.errors import ResultsError

#: Raised when a column changes its meaning, type or name, or a reader that does not know a new one would be wrong. Metrics may be added without raising it.
#: 2: ``configuration`` says what means are taken over, ``metric_versions`` by what numbers were computed, ``compute`` and ``execution`` on what terms seconds
#: may be compared. Folders of 1 are read; a run into one makes it 2.
SCHEMA_VERSION = 2
READ_VERSIONS = (1, 2)

_string = pa.string()
_number = pa.float64()

TRIAL_COLUMNS = [
    pa.field("trial_id", _string, nullable=False),
    pa.field(
        "configuration", _string
    ),  # JSON: all but repetitions and ratio, what means are taken over; null in older folders
    pa.field("task", _string, nullable=False),
    pa.field("model", _string, nullable=False),
    pa.field("method", _string, nullable=False),
    pa.field("ratio", _number, nullable=False),
    pa.field("seed", pa.int64(), nullable=False),
    pa.field("lr", _number),
    pa.field("status", _string, nullable=False),
    pa.field("error", _string),
    pa.field("training_seed", pa.int64(), nullable=False),
    pa.field("forget_seed", pa.int64(), nullable=False),
    pa.field("sampler", _string, nullable=False),
    pa.field("after", _string, nullable=False),  # ratios forgotten before, in a sequence
    pa.field("hyperparameters", _string, nullable=False),  # JSON
    pa.field("options", _string, nullable=False),  # JSON: options of the unlearning loop that are not the default
    pa.field("uses_validation", pa.bool_(), nullable=False),
    pa.field("forget_size", pa.int64()),
    pa.field("retain_size", pa.int64()),
    pa.field(
        "set_sizes", _string
    ),  # JSON: examples of every set that f_U answered, by which its shares are of so many; null in older folders
    pa.field("forget_sha256", _string),
    pa.field("flos", _number),  # also of a trial without a network, where it is known: all that it had spent
    pa.field("seconds", _number),
    pa.field("retrain_flos", _number),
    pa.field("retrain_seconds", _number),  # null where they were spent on other terms than ``seconds``
    pa.field("device", _string),  # with compute, execution and workers: on what terms ``seconds`` were spent
    pa.field("concurrency", pa.int64()),  # trials that may have shared its device; 1 is a device to itself
    pa.field("workers", pa.int64()),  # processes that shared the trial; null, in older folders, is one
    pa.field("compute", _string),  # precision of arithmetic: fp32, tf32 or bf16
    pa.field("execution", _string),  # how steps ran: eager
    pa.field("execution_reason", _string),  # why not otherwise, where there was a choice
    pa.field("peak_memory", pa.int64()),  # bytes of device memory that its process held at most; null on a CPU
    pa.field("examples_per_second", _number),  # that steps worked on, while the unlearning clock ran
    pa.field("marks", _string),  # JSON list of what must be said beside the row's numbers and stands in no other column
    pa.field("started_at", pa.timestamp("us", tz="UTC")),
    pa.field("finished_at", pa.timestamp("us", tz="UTC")),
    pa.field("wall_seconds", _number),
    pa.field("trial", _string, nullable=False),  # JSON: the whole trial, enough to run it again
    pa.field("provenance", _string, nullable=False),  # JSON
    pa.field(
        "metric_versions", _string
    ),  # JSON: versions above 1 of the metrics that the row's numbers are of; null in older folders: all 1
    pa.field("transfer", _string),  # JSON: mean score and loss on every shifted test set, of f_U and of the original
]

CURVE_METRICS = [
    f"{split}_{what}" for split in ("test", "forget", "retain", "validation") for what in ("accuracy", "loss")
]

#: Shares of the retrain's FLOs at which a curve is evaluated and read.
CURVE_SHARES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0)

_metadata = {"mubench_schema_version": str(SCHEMA_VERSION)}

CURVES = pa.schema(
    [
        pa.field("trial_id", _string, nullable=False),
        pa.field("flos", _number, nullable=False),
        pa.field("seconds", _number, nullable=False),
        pa.field("retrain_share", _number),  # flos / retrain's flos
        *(pa.field(name, _number) for name in CURVE_METRICS),
    ],
    metadata=_metadata,
)

EXAMPLES = pa.schema(
    [
        pa.field("trial_id", _string, nullable=False),
        pa.field(
            "split", pa.dictionary(pa.int8(), _string), nullable=False
        ),  # forget, retain (a sample), validation, test; of classes that are forgotten forgotten_validation and forgotten_test
        pa.field("index", pa.int32(), nullable=False),  # position in the data set's own list
        pa.field("label", pa.int32()),
        pa.field("loss", pa.float32()),
        pa.field("correct", pa.float32()),
        pa.field("confidence", pa.float32()),  # log(p / (1 - p)) of the true target
        pa.field("entropy", pa.float32()),  # of the prediction, nats
        pa.field("modified_entropy", pa.float32()),  # nats; this and the next of classifiers, null in older folders
        pa.field("top_probability", pa.float32()),  # of the class that is predicted
    ],
    metadata=_metadata,
)


#: What a record of an observation is kept by.
RECORD_KEY = ("trial_id", "observation", "version", "options")

OBSERVATIONS = pa.schema(
    [
        pa.field("trial_id", _string, nullable=False),
        pa.field("observation", _string, nullable=False),
        pa.field("version", _string, nullable=False),  # of its code; of a plugin with the hash of its file
        pa.field("options", _string, nullable=False),  # JSON: those that are not the default
        pa.field("status", _string, nullable=False),
        pa.field("error", _string),
        pa.field("seconds", _number),  # of the observation alone
        pa.field("finished_at", pa.timestamp("us", tz="UTC")),
        pa.field("values", _string, nullable=False),  # JSON: the metrics that read what it gave
        pa.field("metric_versions", _string),  # JSON: those above 1
        pa.field(
            "arrays",
            pa.list_(
                pa.struct(
                    [
                        pa.field("name", _string),
                        pa.field("shape", pa.list_(pa.int64())),
                        pa.field("values", pa.list_(_number)),  # in C order
                    ]
                )
            ),
        ),
        pa.field("provenance", _string, nullable=False),  # JSON
    ],
    metadata=_metadata,
)


def trials_schema(metrics: Iterable[str]) -> pa.Schema:
    """The schema of ``trials`` with these metric columns, in the given order."""
    return pa.schema([*TRIAL_COLUMNS, *(pa.field(name, _number) for name in metrics)], metadata=_metadata)


def table_of(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table of exactly this schema; raises ResultsError for a column that it does not have, which Arrow would drop in silence."""
    unknown = sorted({name for row in rows for name in row} - set(schema.names))
    if unknown:
        raise ResultsError(
            f"A row has the column {unknown[0]!r}, which its table does not have (of {len(unknown)} such columns)."
        )
    return pa.Table.from_pylist(rows, schema)
