"""What a release holds beside the wheel and the sdist.

- `dist`: a script that makes the wheel, the sdist and the list of components (SBOM);
- `deb`: a script that makes the Debian package of `debian`;
- `command_line`: the command line in words, from its parser;
- `manual`: the man pages, made of these words;
- `completions`: the completion for shells, made from the parser.
"""
