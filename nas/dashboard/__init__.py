"""A study in the browser, live: ``nas dashboard``. Needs Dash, which ``pip install 'nas[dashboard]'`` brings."""
