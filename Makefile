# README.md names the two commands that matter: make demo, make test.
# Everything is installed by this file's own rules; nothing depends on what was there before but git, make and python3.

SHELL := /bin/bash
VENV := .venv
BUILD := .build
COLLECTION := $(BUILD)/collections/ansible_collections/oscarv/virt

.PHONY: venv venv-test
venv: ## the controller's Python environment and this tree linked as oscarv.virt
	tools/venv $(VENV) requirements.txt
	@mkdir -p $(dir $(COLLECTION)) && ln -sfn $(CURDIR) $(COLLECTION)

venv-test: ## the same with what the tests need
	tools/venv $(VENV) requirements-test.txt
	@mkdir -p $(dir $(COLLECTION)) && ln -sfn $(CURDIR) $(COLLECTION)
