"""Real processes and servers: Prometheus, node, the exporter itself."""
