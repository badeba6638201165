"""The whole exporter under seeded faults on a virtual clock: see `__main__` for how to run and replay it."""
