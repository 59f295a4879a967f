"""`python -m knative_lambda` is `kn-lambda`."""

from knative_lambda.cli import main

if __name__ == "__main__":
    main()
