"""The life of the process: listeners, workers, signals, logs and metrics."""
