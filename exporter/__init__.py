"""A Prometheus exporter for the integration logs of Elastic Path Commerce Cloud."""

__version__ = "0.1.0"
