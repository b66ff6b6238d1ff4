"""The page of one model, as a Hugging Face Space: beside this file lies the folder that `save_pretrained` wrote."""

import os
import threading
from pathlib import Path

import lightning_freqdiff as lf
from lightning_freqdiff.app.page import serve
from lightning_freqdiff.app.studio import Studio

# MODEL may name a repository of models instead, such as user/name.
model = lf.Model.from_pretrained(os.environ.get("MODEL") or Path(__file__).with_name("model"))
serve(Studio(model), host="0.0.0.0", port=int(os.environ.get("PORT", "7860")))  # a Space is a machine of its own
threading.Event().wait()
