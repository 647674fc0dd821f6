"""What keeps secrets secret and text from outside text: URLs, private files, what may be shown."""
