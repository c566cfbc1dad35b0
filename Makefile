# README.md names the two commands that matter: make demo, make test.
# Everything is installed by this file's own rules; nothing depends on what was there before but git, make and python3.

SHELL := /bin/bash
COLLECTION := .build/collections/ansible_collections/oscarv/virt
SUITES = . .venv/bin/activate && python tools/suites.py

# uv trusts the certificate authorities of this machine, as pip and apt do, not a list of its own.
export UV_SYSTEM_CERTS := true
export UV_NATIVE_TLS := true

.PHONY: help demo demo-down demo-clean test check test-kvm test-xen test-lxc test-openvz test-long bench docs venv venv-test packages

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: ## the main job for real; KEEP=1 stops before the teardown, VERBOSE=1 shows what Ansible prints
	tools/demo

demo-down: ## take a kept or interrupted demo away
	tools/demo down

demo-clean: demo-down ## the same, and its caches
	$$([ "$$(id -u)" = 0 ] || echo sudo) rm -rf /var/lib/oscarv-lab /var/lib/oscarv-store

test: venv-test packages ## everything CI runs, with a table of minutes
	$(SUITES) test

check: venv-test ## lint and unit tests, under 3 minutes
	$(SUITES) check

test-kvm: venv-test packages ## the molecule scenario `kvm` alone
	$(SUITES) kvm

test-xen: venv-test packages ## the molecule scenario `xen` alone
	$(SUITES) xen

test-lxc: venv-test packages ## the molecule scenario `lxc` alone
	$(SUITES) lxc

test-openvz: venv-test packages ## the molecule scenario `openvz` alone: containers under a double of OpenVZ's tools
	$(SUITES) openvz

test-long: venv-test packages ## what is too slow for CI
	$(SUITES) long

bench: venv-test packages ## figures against peers and floors; writes tests/bench/results.json
	. .venv/bin/activate && python tests/bench/run.py

docs: venv-test ## build the docsite into .build/docs/html
	tools/docs

venv: ## the controller's Python environment, and this tree linked as oscarv.virt
	@tools/venv .venv requirements.txt
	@mkdir -p $(dir $(COLLECTION)) && ln -sfn $(CURDIR) $(COLLECTION)

venv-test: ## the same with what the tests need
	@tools/venv .venv requirements-test.txt
	@tools/venv .build/pyinfra tests/integration/openvz/requirements.txt
	@mkdir -p $(dir $(COLLECTION)) && ln -sfn $(CURDIR) $(COLLECTION)

packages: ## Debian packages that the tests need
	@tools/packages tests/packages.txt
