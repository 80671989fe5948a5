"""The first form: runs and their results."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes both tables."""
    op.create_table(
        "runs",
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
        sqlite_autoincrement=True,
    )
    op.create_index("runs_by_label", "runs", ["label", "id"])
    op.create_index("runs_alike", "runs", ["exchange", "hostname", "target", "id"])
    run = sql.Column(
        "run", sql.Integer, sql.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    op.create_table("results", run, sql.Column("result", sql.LargeBinary, nullable=False))
