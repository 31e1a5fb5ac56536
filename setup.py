"""Installs penny. services/ and pipeline/ go inside the package, as penny/data/: see penny/core/files.py."""
import re

from setuptools import find_packages, setup

with open("penny/__init__.py", encoding="utf-8") as file:
    version = re.search(r'__version__ = "([^"]+)"', file.read())[1]
with open("README.md", encoding="utf-8") as file:
    readme = file.read()

setup(
    name="penny",
    version=version,
    description="One lab out of a shelf of unequal computers",
    long_description=readme,
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.9",
    packages=find_packages(include=["penny", "penny.*"]) + ["penny.data.services", "penny.data.pipeline"],
    package_dir={"penny.data.services": "services", "penny.data.pipeline": "pipeline"},
    package_data={"penny.data.services": ["*.ini"], "penny.data.pipeline": ["*.ini", "*.opml", "prompts/*.txt"]},
    entry_points={"console_scripts": ["penny = penny.__main__:entry"]},
)
