PYTHON ?= python3
BIN := .venv/bin
export FREQDIFF_DATA

.PHONY: demo test lint docs wheel quality paper bench bench-gpu clean

.venv: constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch .venv

demo: .venv  ## train on embedded heartbeats, sample with and without a cache, show table and pictures
	$(BIN)/python -m lightning_freqdiff fit
	$(BIN)/python benchmarks/demo.py

# Test processes, one for each core unless told; each of them computes on one thread. A module's tests stay together
# while all are busy, since they share fixtures.
WORKERS ?= auto

test: .venv  ## the default suite; SLOW=1 adds the long tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(if $(SLOW),,-m "not slow")

lint: .venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/codespell
	$(BIN)/nbstripout --verify notebooks/*.ipynb
	$(BIN)/lint-imports

docs: .venv  ## build the documentation in site/, from what is here alone; a broken link or reference fails
	NO_MKDOCS_2_WARNING=1 OMP_NUM_THREADS=1 $(BIN)/mkdocs build --strict --quiet

wheel: .venv  ## build the wheel through the sdist, install it in an empty folder, import it and find a preset
	rm -rf dist build/wheel
	$(BIN)/python -m build --quiet
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target build/wheel dist/*.whl
	cd build && PYTHONPATH=wheel $(abspath $(BIN))/python -P -c "import lightning_freqdiff as package; \
		from lightning_freqdiff.cli.trainer import CLI; print(package.__file__); assert '/build/wheel/' in package.__file__"
	cd build && PYTHONPATH=wheel $(abspath $(BIN))/python -P -m lightning_freqdiff fit --config sines --print_config > /dev/null

# Two cores, a quarter of an hour, nothing but embedded data; CKPT=... and DATA=... (a file of FREQDIFF_DATA) for a model
# of your own, which takes a little longer at the papers' size.
THREADS ?= 2
RESULTS := benchmarks/results
MEASURE := $(BIN)/python benchmarks

bench: .venv  ## measure speed against the reference design and this machine's limit, and write benchmarks/README.md
	$(MEASURE)/engine.py --threads $(THREADS) --rounds 3 --output $(RESULTS)/engine.json
	$(MEASURE)/peers.py --threads $(THREADS) --reference_steps 20 --batches 1 64 --samples 64 --output $(RESULTS)/peers.json \
		$(if $(CKPT),--ckpt_path $(CKPT) --data $(or $(DATA),none) --rounds 2 --quality_samples 32)
	$(MEASURE)/limits.py --threads $(THREADS) --output $(RESULTS)/limits.json
	$(MEASURE)/training.py --threads $(THREADS) --rounds 2 --bf16 --to_loss --loss_steps 300 --output $(RESULTS)/training.json
	$(MEASURE)/metrics.py --threads $(THREADS) --repeats 2 --output $(RESULTS)/metrics.json
	$(MEASURE)/page.py

# Ten minutes of training for each data set and network, and a few for the scores: an hour and a half in all.
SETS_OF_QUALITY ?= ecg nasa-charge nasa-discharge nasdaq droughts
WINDOWS ?= stocks energy ett sines
MINUTES ?= 10
SEEDS ?= 0
QUALITY_FLAGS ?= --threads $(THREADS) --minutes $(MINUTES) --seeds $(SEEDS)

quality: .venv  ## train on every data set at hand, and measure and draw how real the samples are
	$(MEASURE)/quality.py --sets $(SETS_OF_QUALITY) --networks unet $(QUALITY_FLAGS)
	$(MEASURE)/quality.py --sets $(WINDOWS) --networks transformer-time $(QUALITY_FLAGS)
	$(MEASURE)/page.py

# A quarter of an hour with a checkpoint (CKPT=... of a transformer over frequencies) and 128 samples, ten minutes more
# without, and an hour and a half with the thousand.
DATA_OF_PAPER ?= $(if $(FREQDIFF_DATA),ecg_mitbih,synthetic)
PAPER_FLAGS ?= --samples 1000

paper: .venv  ## measure what the paper of E2-CRF claims on a trained model, beside its figures
	$(MEASURE)/paper.py --data $(DATA_OF_PAPER) --threads $(THREADS) $(PAPER_FLAGS) $(if $(CKPT),--ckpt_path $(CKPT))
	$(MEASURE)/page.py

# Every line is meant for less than ten minutes on one H100, and can be run by itself. TINY=1 does all of it on a CPU,
# in runs/tiny.
SETS ?= ecg nasdaq nasa-charge nasa-discharge
CACHES ?= $(filter-out wandb naive,$(basename $(notdir $(wildcard callbacks/*.yaml))))
GPU_RESULTS := $(if $(TINY),runs/tiny,$(RESULTS))
GPU_FLAGS := $(if $(TINY),--tiny --threads 1 --rounds 1 --runs runs/tiny/runs --checkpoints runs/tiny/checkpoints,--threads 16)
GPU_RUNS := $(if $(TINY),runs/tiny/runs,runs/gpu)

bench-gpu: .venv  ## train at the papers' size, draw 10,000 series with and without each cache, and measure it all
	for set in $(SETS); do \
		$(MEASURE)/gpu.py train --data $$set --bf16 $(GPU_FLAGS) || exit 1; \
		for cache in uncached $(CACHES); do \
			$(MEASURE)/gpu.py sample --data $$set --cache $$cache $(GPU_FLAGS) \
				--output $(GPU_RESULTS)/gpu-samples-$$set.json || exit 1; \
		done; \
	done
	$(MEASURE)/engine.py --output $(GPU_RESULTS)/gpu-engine.json $(if $(TINY),--threads 1 --batches 1 --steps 1 --rounds 1)
	$(MEASURE)/gpu.py pot $(GPU_FLAGS) --output $(GPU_RESULTS)/gpu-metrics.json
	$(MEASURE)/gpu.py unpack $(GPU_FLAGS) --data ecg --output $(GPU_RUNS)/ecg.ckpt
	$(MEASURE)/peers.py --ckpt_path $(GPU_RUNS)/ecg.ckpt --output $(GPU_RESULTS)/gpu-peers.json $(if $(TINY),--threads 1 \
		--data none --steps 12 --batches 1 4 --samples 4 --rounds 1,--data ecg_mitbih --batches 1 64 1024 --samples 1024 \
		--reference_steps 50)
	$(MEASURE)/limits.py --output $(GPU_RESULTS)/gpu-limits.json $(if $(TINY),--tiny --threads 1 --preset plain --length 16 \
		--batches 1 4 --peak_size 64 --rounds 1,--batches 1 64 1024 8192)
	$(MEASURE)/training.py --output $(GPU_RESULTS)/gpu-training.json --bf16 $(if $(TINY),--threads 1 --preset small \
		--length 16 --batch 4 --rounds 1,--steps 50 --compile)
	$(MEASURE)/page.py $(if $(TINY),--results $(GPU_RESULTS) --output runs/tiny/README.md)

clean:
	rm -rf .venv build dist runs samples site
