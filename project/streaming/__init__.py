"""A long job that streams what it makes: a story, word by word, told again from the start when an attempt fails."""
