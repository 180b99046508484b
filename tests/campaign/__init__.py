"""The attack on modgap that is repeated: `python -m tests.campaign`, or `make campaign`."""
