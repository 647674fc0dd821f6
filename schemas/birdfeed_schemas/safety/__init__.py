"""Keep secrets secret and show untrusted text safely: URLs, private files, output."""
