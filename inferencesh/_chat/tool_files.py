"""Tools from a file of the user: ``--tools FILE.py``."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path

from inferencesh import ConfigurationError, Tool

from .text import one_line

__all__ = ["load_tools"]


def load_tools(path: Path) -> list[Tool]:
    """Run a Python file and return the tools that it defines.

    Args:
        path: The file. It may import the modules beside it.

    Returns:
        What ``@tool`` or ``tool(...).build()`` made at the top level of the file, in its order. Other functions are no
        tools: a helper must not be callable by a model only because it is in the file.

    Raises:
        ConfigurationError: The file cannot be read or run, has no tool, or has two of the same name.
    """
    name = f"inferencesh_tools_{path.stem}"
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None or not path.is_file():
        raise ConfigurationError(f"--tools: {path} is not a file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for their module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        loader.exec_module(module)
    except Exception as error:  # the file is any program
        raise ConfigurationError(
            f"--tools: {path} cannot be loaded: {type(error).__name__}: {one_line(str(error))}"
        ) from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    tools = list({id(each): each for each in vars(module).values() if isinstance(each, Tool)}.values())
    if not tools:
        raise ConfigurationError(
            f"--tools: {path} defines no tool: write @tool above its functions, after «from inferencesh import tool»"
        )
    names = [each.name for each in tools]
    if doubled := sorted({each for each in names if names.count(each) > 1}):
        raise ConfigurationError(f"--tools: {path} defines {', '.join(doubled)} more than once: give each its own name")
    return tools
