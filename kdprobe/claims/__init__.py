"""Judging: what each source paper claims, decided from results alone."""
