"""A page to play with a model: the only room that knows Gradio."""
