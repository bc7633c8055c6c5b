"""python -m compare photo …, python -m compare table …"""

from compare import main

if __name__ == "__main__":
    main()
