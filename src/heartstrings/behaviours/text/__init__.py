"""Questions that any language model can be asked, with or without a chat template: words, endings, tone, fixed text."""
