"""`python -m penny.digest`"""
from penny.core import run

run.main("digest")
