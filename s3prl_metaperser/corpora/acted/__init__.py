"""Corpora of acted speech, one file each: names of files say who speaks and which emotion was acted."""
