"""The attack on the readers of the zoo: `python -m zoo.tests.campaign`, or `make campaign`."""
