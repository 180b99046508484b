"""The parsers of the zoo, with valid files for each."""

from pathlib import Path

from tests.campaign.parsers import Parser
from zoo.tests.campaign import model_files

REGRESSIONS = Path(__file__).parent / "regressions"
PARSERS = [Parser(name, make, read, quick=3, regressions=REGRESSIONS) for name, make, read in model_files.PARSED]
