"""What a release holds beside the wheel and the sdist.

- `dist`: a script that makes the wheel, the sdist and the list of components (SBOM);
- `deb`: a script that makes the Debian package of `debian`;
- `manual`: the man pages, made from the parser of the command line;
- `completions`: the completion for shells, made from the same parser.
"""
