"""`python -m saigen VERB`, the same as `saigen VERB`."""

from saigen.cli import main

raise SystemExit(main())
