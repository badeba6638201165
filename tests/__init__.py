"""Tests: facts about each module here, real servers and processes in `integration`."""
