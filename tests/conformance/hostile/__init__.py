"""Answers that mean harm: what no kit that runs as root may act upon."""
