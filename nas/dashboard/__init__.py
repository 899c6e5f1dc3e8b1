"""A study in the browser, live: ``nas dashboard``. Needs Dash, which the extra ``dashboard`` brings."""
