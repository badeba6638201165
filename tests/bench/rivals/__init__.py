"""What the exporter is measured against: each a program of its own, run by the interpreter that has its packages."""
