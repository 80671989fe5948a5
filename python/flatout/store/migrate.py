"""Brings a database to the form that this flatout writes; refuses a newer one. One process at a time does it."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sql

from flatout.errors import UsageError

# The last step in migrations/versions; a test compares them.
HEAD = "0001"
# Of PostgreSQL's advisory locks: any number that others do not use.
_LOCK = 0x666C6174


def bring_up(engine: sql.Engine) -> None:
    """Upgrades the database if its form is not the newest. Errors: UsageError where a newer flatout wrote it."""
    with engine.connect() as connection:
        if _form(connection) == HEAD:
            return
    with engine.execution_options(immediate=True).begin() as connection:
        _take_turns(connection)
        form = _form(connection)
        if form == HEAD:
            return
        _upgrade(connection, form)


def _form(connection: sql.Connection) -> str | None:
    """The step that the database is at; None: an empty one."""
    if not sql.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(sql.text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _take_turns(connection: sql.Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sql.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def _upgrade(connection: sql.Connection, form: str | None) -> None:
    # Late: an everyday start does not need it.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    known = {step.revision for step in ScriptDirectory.from_config(config).walk_revisions()}
    if form is not None and form not in known:
        raise UsageError(
            f"a newer flatout has written this store (form {form}; this one knows up to {HEAD}): update flatout"
        )
    command.upgrade(config, HEAD)
