"""The tables of the store, as they are now. What led here is in `migrations/`; a test compares the two."""

from __future__ import annotations

import sqlalchemy as sql

METADATA = sql.MetaData()

# `exchange` is the same for runs that ask alike, whatever their target: what may be compared.
RUNS = sql.Table(
    "runs",
    METADATA,
    sql.Column("id", sql.Integer, primary_key=True, autoincrement=True),
    sql.Column("kind", sql.String(16), nullable=False),
    sql.Column("label", sql.Text, nullable=False),
    sql.Column("protocol", sql.String(32), nullable=False),
    sql.Column("transport", sql.String(16), nullable=False),
    sql.Column("target", sql.Text, nullable=False),
    sql.Column("exchange", sql.String(32), nullable=False),
    sql.Column("hostname", sql.Text, nullable=False),
    sql.Column("version", sql.Text, nullable=False),
    sql.Column("started_at", sql.Float(53), nullable=False),
    sql.Column("duration_s", sql.Float(53), nullable=False),
    sql.Column("verdict", sql.String(32), nullable=False),
    sql.Column("valid", sql.Boolean, nullable=False),
    sql.Column("value", sql.Float(53)),
    sql.Column("unit", sql.String(32), nullable=False),
    sql.Column("loss", sql.Float(53)),
    sql.Column("p50_ns", sql.BigInteger),
    sql.Column("p99_ns", sql.BigInteger),
    sql.Index("runs_by_label", "label", "id"),
    sql.Index("runs_alike", "exchange", "hostname", "target", "id"),
    # A number is never given to another run, also after the newest one was removed.
    sqlite_autoincrement=True,
)

# Apart, so that lists need not read past them. `result` is the JSON, compressed by zlib.
RESULTS = sql.Table(
    "results",
    METADATA,
    sql.Column(
        "run", sql.Integer, sql.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    ),
    sql.Column("result", sql.LargeBinary, nullable=False),
)
