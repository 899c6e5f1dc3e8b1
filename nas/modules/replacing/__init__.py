"""What ``nas.modules.replace`` is made of: which functions are activations, where a model calls them, and a forward
that calls modules instead.
"""
