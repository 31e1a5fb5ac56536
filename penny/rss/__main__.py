"""`python -m penny.rss`"""
from penny.core import run

run.main("rss")
