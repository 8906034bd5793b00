"""kdprobe: what did the student really learn from the teacher?"""
