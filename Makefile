# make demo   sets everything up, trains the built-in portrait and writes demo.mp4
# make test   sets everything up and runs the tests
# make lint   style and types
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint clean

demo: $(VENV)/installed
	$(BIN)/python train.py quality=good
	$(BIN)/python -m radnerf.data.demo speech demo.wav --seconds 8 --seed 1
	$(BIN)/python render.py portrait=outputs/demo/latest/portrait.safetensors audio=demo.wav out=demo.mp4
	@echo "The talking portrait is in demo.mp4; outputs/demo/latest/ holds the run."

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.txt
	@# Without them the demo trains, too; only what is measured on landmarks is left out.
	-$(BIN)/python -m radnerf.models
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -r requirements.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) outputs build
