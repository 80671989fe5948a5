"""What the engine is given: names resolved, the limits of this host checked."""
