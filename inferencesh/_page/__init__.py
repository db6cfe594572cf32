"""The parts of a chat page that the playground and services share: safe Markdown, JavaScript modules, styles."""
