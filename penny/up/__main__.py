"""`python -m penny.up`"""
from penny.core import run

run.main("up")
