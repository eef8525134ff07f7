"""Runs on a Kubernetes cluster; the only package that imports k8s."""
