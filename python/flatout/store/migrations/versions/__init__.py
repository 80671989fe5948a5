"""One file a step, in their order by `down_revision`."""
