"""The version, where everything that needs it can read it."""

VERSION = "0.1.0"
