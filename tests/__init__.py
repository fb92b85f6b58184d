"""Tests of the whole: real servers, real processes, real signals."""
