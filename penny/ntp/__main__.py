"""`python -m penny.ntp`"""
from penny.core import run

run.main("ntp")
