/** Spins that only end when another thread gets its turn: onSpinWait, a bare volatile, a hot loop under compilation. */
public class Spin {
    static volatile int turn;
    static volatile boolean flag;

    public static void main(String[] args) throws Exception {
        Thread t = new Thread(() -> {
            for (int i = 0; i < 50; i++) {
                while (turn % 2 != 1) Thread.onSpinWait();
                turn++;
            }
            flag = true;
        });
        t.start();
        for (int i = 0; i < 50; i++) {
            while (turn % 2 != 0) Thread.onSpinWait();
            turn++;
        }
        while (!flag) { }
        t.join();
        System.out.println(turn);
        long x = 1;
        for (int k = 0; k < 20; k++)
            for (int i = 0; i < 5_000_000; i++) x = x * 6364136223846793005L + 1442695040888963407L;
        System.out.println(x);
    }
}
